"""Parts of large files that come in Xet's format."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "staged_xorbs",
        sa.Column("folder", sa.String(length=100), nullable=False),
        sa.Column("xorb", sa.String(length=64), nullable=False),
        sa.Column("repo_id", KEY, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.Boolean(), nullable=False),
        sa.Column("touched", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repo_id"], ["repos.id"], name=op.f("fk_staged_xorbs_repo_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name=op.f("fk_staged_xorbs_account_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("folder", "xorb", name=op.f("pk_staged_xorbs")),
    )
    for name in ("account_id", "repo_id"):
        op.create_index(op.f(f"ix_staged_xorbs_{name}"), "staged_xorbs", [name], unique=False)


def downgrade() -> None:
    op.drop_table("staged_xorbs")
