"""The steps of the workshop: one technique a file, each on the text of one row or over the whole corpus."""
