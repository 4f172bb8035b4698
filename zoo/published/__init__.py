"""Models that others have published: read inertly, recognised by their keys, mapped onto our architectures."""
