"""The doors for programs: parse, call the gateway, encode. `create_app` makes them, `serve` opens them."""
