"""The repositories and models tables: what is indexed, and in which vector space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from pipeline.tables import indexing_jobs, models, repositories

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection

# Whether the vectors that a repository has are of another model than the job's: then every file is done anew.
NEWEST: Final = (
    select(func.max(models.c.id))
    .where(models.c.embedder == indexing_jobs.c.embedder, models.c.model == indexing_jobs.c.model)
    .correlate(indexing_jobs)
    .scalar_subquery()
)
MODEL_CHANGED: Final = repositories.c.model_id.is_not(None) & repositories.c.model_id.is_distinct_from(NEWEST)


def ensure(connection: Connection, project_id: str, root_path: str, name: str) -> int:
    """Return the id of a repository, made when it is new."""
    known = find(connection, project_id, root_path)
    if known is not None:
        return int(known.id)
    statement = upsert(repositories).values(project_id=project_id, root_path=root_path, name=name)
    same = statement.on_conflict_do_update(
        index_elements=["project_id", "root_path"], set_={"name": statement.excluded.name}
    )
    return int(connection.execute(same.returning(repositories.c.id)).scalar_one())


def find(connection: Connection, project_id: str, root_path: str) -> Row[Any] | None:
    """Return a repository's row."""
    return connection.execute(
        select(repositories).where(repositories.c.project_id == project_id, repositories.c.root_path == root_path)
    ).first()


LISTED: Final = text("""
SELECT r.*, m.embedder, m.model, m.dimension,
    (SELECT count(*) FROM penstock.files f WHERE f.repository_id = r.id AND f.skip_reason IS NULL) AS files,
    (SELECT coalesce(sum(f.chunk_count), 0) FROM penstock.files f WHERE f.repository_id = r.id) AS chunks
FROM penstock.repositories r LEFT JOIN penstock.models m ON m.id = r.model_id
WHERE CAST(:project AS text) IS NULL OR r.project_id = :project
ORDER BY r.project_id, r.root_path
""")


def listed(connection: Connection, project_id: str | None) -> Sequence[Row[Any]]:
    """Return the repositories of a project, or all, with their model and totals."""
    return connection.execute(LISTED, {"project": project_id}).all()


def set_state(connection: Connection, repository_id: int, state: str, model_id: int | None) -> None:
    """Note what the index of a repository holds: `partial` or `complete`, and the vector space it is in."""
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository_id)
        .values(index_state=state, model_id=model_id, indexed_at=text("now()"))
    )


def mark_partial(connection: Connection, repository_id: int, model_id: int | None = None) -> None:
    """Note that the index of a repository is behind its files, and the vector space of its first chunks."""
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository_id)
        .values(index_state="partial", model_id=func.coalesce(repositories.c.model_id, model_id))
    )


def model_changed(connection: Connection, job_id: UUID) -> bool:
    """Return whether the repository of a job has vectors of another model than the job's."""
    query = select(MODEL_CHANGED).select_from(indexing_jobs).join(repositories).where(indexing_jobs.c.id == job_id)
    return bool(connection.execute(query).scalar())


def remove(connection: Connection, repository_id: int) -> None:
    """Delete a repository with everything that belongs to it."""
    connection.execute(repositories.delete().where(repositories.c.id == repository_id))


def newest_model(connection: Connection, embedder: str, model: str) -> Row[Any] | None:
    """Return the newest vector space of a model; an older one has another dimension."""
    return connection.execute(
        select(models)
        .where(models.c.embedder == embedder, models.c.model == model)
        .order_by(models.c.id.desc())
        .limit(1)
    ).first()


def add_model(connection: Connection, embedder: str, model: str, dimension: int) -> int:
    """Return the id of a vector space, made when it is new."""
    connection.execute(
        upsert(models).values(embedder=embedder, model=model, dimension=dimension).on_conflict_do_nothing()
    )
    return int(
        connection.execute(
            select(models.c.id).where(
                models.c.embedder == embedder, models.c.model == model, models.c.dimension == dimension
            )
        ).scalar_one()
    )
