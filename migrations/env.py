"""Runs the migrations on the connection that `app.persistence.migrating` gives; there is no alembic.ini and no command line."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table=context.config.attributes["version_table"],
    # whoever gives the connection has begun a transaction and ends it: all migrations happen, or none
    transactional_ddl=False,
)
context.run_migrations()
