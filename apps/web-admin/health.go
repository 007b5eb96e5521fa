package main

// healthy returns an error if this process cannot do its work. It does not check other
// services: while one is unreachable, those that depend on it should keep serving.
func healthy() error { return nil }
