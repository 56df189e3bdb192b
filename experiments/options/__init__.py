"""What the command lines of experiments say, checked; nothing here knows a method or trains."""
