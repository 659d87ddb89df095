"""Settings of the tracking server and the rules of promotion: data, read as package files."""
