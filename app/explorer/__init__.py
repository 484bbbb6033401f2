"""The Explorer: one page that shows runs, as a file of its own or served over their folder."""
