"""What would have to change in a project that comes from another queue; reads its source and imports none of it."""
