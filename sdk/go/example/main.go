package main

// A plugin is a library: the host calls it by what bindings/wit_exports has, and never this.
func main() {}
