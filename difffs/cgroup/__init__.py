"""Memory control groups of both versions: finding one's own, making one, limiting it."""
