package main

// message is the name of public-api. It is the smallest visible change to release.
const message = "Microbima public API"
