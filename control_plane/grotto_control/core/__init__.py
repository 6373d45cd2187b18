"""Tenancy, sessions, planning. Owns every decision; names no server, vendor SDK or backend."""
