package main

// message is the title of the page. Changing it is the smallest change that
// people can see.
const message = "Microbima administration"
