"""Conversations over a WebSocket: `/v1/realtime`, in the events of OpenAI's Realtime API."""
