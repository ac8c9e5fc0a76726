"""What Alembic runs: all steps in one transaction on the connection that the store opens."""

from alembic import context

from adapterhub.hub.store.models import Base

with context.config.attributes["run"]() as connection:
    context.configure(
        connection=connection, target_metadata=Base.metadata, transaction_per_migration=False
    )
    with context.begin_transaction():
        context.run_migrations()
