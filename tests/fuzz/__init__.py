"""Programs that look for inputs that are not refused as they should be, for as long as they are told."""
