"""Signed evaluation reports."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "evaluation_reports",
        sa.Column("id", KEY, nullable=False),
        sa.Column("repo_id", KEY, nullable=False),
        sa.Column("commit_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", KEY, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("dataset", sa.String(length=255), nullable=False),
        sa.Column("split", sa.String(length=255), nullable=False),
        sa.Column("data_sha256", sa.String(length=64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("signature", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("withdrawn", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["repo_id"],
            ["repos.id"],
            name=op.f("fk_evaluation_reports_repo_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["commit_id"],
            ["commits.id"],
            name=op.f("fk_evaluation_reports_commit_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["key_id"],
            ["signer_keys.id"],
            name=op.f("fk_evaluation_reports_key_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation_reports")),
        sa.UniqueConstraint(
            "repo_id", "digest", "key_id", name=op.f("uq_evaluation_reports_repo_id")
        ),
    )
    for name in ("commit_id", "dataset", "key_id"):
        op.create_index(
            op.f(f"ix_evaluation_reports_{name}"), "evaluation_reports", [name], unique=False
        )


def downgrade() -> None:
    op.drop_table("evaluation_reports")
