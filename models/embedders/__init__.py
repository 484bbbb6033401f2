"""What tells how alike two queries are: words, sentence vectors of this process or of a server."""
