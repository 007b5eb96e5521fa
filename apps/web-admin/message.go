package main

// message is the title of the page. It is the smallest visible change to release.
const message = "Microbima administration"
