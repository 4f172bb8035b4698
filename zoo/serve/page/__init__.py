"""The page's own files: markup, style and scripts."""
