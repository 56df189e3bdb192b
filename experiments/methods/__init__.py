"""One definition a method, and the registry of all; who trains them, and when, is the engine's."""
