package main

// message is what internal-api greets with. Changing it is the smallest change
// that people can see.
const message = "Hello from internal-api"
