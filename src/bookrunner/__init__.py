"""Bookrunner: live order books, strategy runners, one engine and one journal under everything."""
