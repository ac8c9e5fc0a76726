"""Public keys that users sign with, and what files of weights look like from afar."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "signer_keys",
        sa.Column("id", KEY, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("public", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("expires", sa.DateTime(), nullable=True),
        sa.Column("revoked", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_signer_keys_account_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signer_keys")),
        sa.UniqueConstraint("public", name=op.f("uq_signer_keys_public")),
    )
    op.create_index(op.f("ix_signer_keys_account_id"), "signer_keys", ["account_id"], unique=False)
    op.create_index(
        op.f("ix_signer_keys_fingerprint"), "signer_keys", ["fingerprint"], unique=False
    )
    op.create_table(
        "likenesses",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("shapes", sa.String(length=64), nullable=False),
        sa.Column("norms", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blobs.sha256"], name=op.f("fk_likenesses_sha256"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_likenesses")),
    )
    op.create_index(op.f("ix_likenesses_shapes"), "likenesses", ["shapes"], unique=False)


def downgrade() -> None:
    op.drop_table("likenesses")
    op.drop_table("signer_keys")
