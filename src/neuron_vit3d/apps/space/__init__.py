"""The Space: a page on which a stack is segmented, looked at and traced anew, for people who install nothing."""
