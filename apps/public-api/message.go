package main

// message is what public-api calls itself. Changing it is the smallest change
// that people can see.
const message = "Microbima public API"
