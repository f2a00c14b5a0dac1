"""What must survive: object store, database, job queue, outbox, audit trail."""
