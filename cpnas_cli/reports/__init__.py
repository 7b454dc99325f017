"""What a reader looks at: figures, tables and pages made from records; the only place with matplotlib."""
