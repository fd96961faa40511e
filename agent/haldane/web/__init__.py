"""The public gallery: read anything over HTTP, post a command with the token.

Belongs here: the HTTP API, the metrics page, the report pages. Does not belong
here: any decision. What is shown and what is asked goes through the `Agent`
protocol in `api`.
"""
