package main

// message is the greeting of internal-api. It is the smallest visible change to release.
const message = "Hello from internal-api"
