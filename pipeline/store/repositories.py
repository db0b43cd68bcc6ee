"""The repositories and models tables: what is indexed, and in which vector space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from pipeline.tables import models, repositories

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select


class Growth(NamedTuple):
    """What a transaction adds to a repository: searchable files and chunks; `changes` are chunks written or removed."""

    files: int = 0
    chunks: int = 0
    changes: int = 0


def ensure(connection: Connection, project_id: str, root_path: str, name: str) -> int:
    """Return the id of a repository, made when it is new."""
    # Locked, so that nobody removes it before the caller's transaction ends.
    known = connection.execute(_named(project_id, root_path).with_for_update(key_share=True, read=True)).first()
    if known is not None:
        return int(known.id)
    statement = upsert(repositories).values(project_id=project_id, root_path=root_path, name=name)
    same = statement.on_conflict_do_update(
        index_elements=["project_id", "root_path"], set_={"name": statement.excluded.name}
    )
    return int(connection.execute(same.returning(repositories.c.id)).scalar_one())


def find(connection: Connection, project_id: str, root_path: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a repository's row; with `lock`, nobody submits a job for it before the transaction ends."""
    query = _named(project_id, root_path)
    return connection.execute(query.with_for_update() if lock else query).first()


def _named(project_id: str, root_path: str) -> Select[Any]:
    return select(repositories).where(repositories.c.project_id == project_id, repositories.c.root_path == root_path)


def listed(connection: Connection, project_id: str | None) -> Sequence[Row[Any]]:
    """Return the repositories of a project, or all, with their model and totals."""
    model = (models.c.embedder, models.c.model, models.c.dimension)
    query = select(repositories, *model).outerjoin_from(repositories, models)
    if project_id is not None:
        query = query.where(repositories.c.project_id == project_id)
    return connection.execute(query.order_by(repositories.c.project_id, repositories.c.root_path)).all()


def root_paths(connection: Connection) -> Sequence[str]:
    """Return what the repositories of all projects are called."""
    return connection.execute(select(repositories.c.root_path)).scalars().all()


def set_state(
    connection: Connection, repository_id: int, state: str, model_id: int | None, revision: str | None
) -> None:
    """Note what the index of a repository holds: `partial` or `complete`, the vector space, and the commit, if one."""
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository_id)
        .values(index_state=state, model_id=model_id, revision=revision, indexed_at=text("now()"))
    )


def mark_partial(connection: Connection, repository_id: int) -> None:
    """Note that the index of a repository is behind its files."""
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository_id, repositories.c.index_state != "partial")
        .values(index_state="partial")
    )


def grow(connection: Connection, repository_id: int, growth: Growth, model_id: int | None = None) -> None:
    """Count what was written to a repository or removed from it, and note the vector space of its first chunks.

    A later space counts once its job is complete. The job's row is locked before, as it is where a job ends.
    """
    if not any(growth):
        return
    connection.execute(
        update(repositories)
        .where(repositories.c.id == repository_id)
        .values(
            files=repositories.c.files + growth.files,
            chunks=repositories.c.chunks + growth.chunks,
            changes=repositories.c.changes + growth.changes,
            model_id=func.coalesce(repositories.c.model_id, model_id),
        )
    )


def remove(connection: Connection, repository_id: int) -> None:
    """Delete a repository with everything that belongs to it."""
    connection.execute(repositories.delete().where(repositories.c.id == repository_id))


def newest_model(connection: Connection, embedder: str, model: str) -> Row[Any] | None:
    """Return the vector space that a model was seen to answer in last; another one has another dimension."""
    return connection.execute(
        select(models)
        .where(models.c.embedder == embedder, models.c.model == model)
        .order_by(models.c.seen_at.desc())
        .limit(1)
    ).first()


def dimension_of(connection: Connection, model_id: int) -> int:
    """Return the dimension of a vector space."""
    return int(connection.execute(select(models.c.dimension).where(models.c.id == model_id)).scalar_one())


def add_model(connection: Connection, embedder: str, model: str, dimension: int) -> int:
    """Return the id of the vector space that a model answers in now, made when it is new."""
    seen = upsert(models).values(embedder=embedder, model=model, dimension=dimension)
    again = seen.on_conflict_do_update(
        index_elements=["embedder", "model", "dimension"], set_={"seen_at": func.clock_timestamp()}
    )
    return int(connection.execute(again.returning(models.c.id)).scalar_one())
