"""What several pages share: words, pills, tables, notes."""
