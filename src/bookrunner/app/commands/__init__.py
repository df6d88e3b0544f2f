"""One module a command of ``bookrunner``; imported only when its command runs."""
