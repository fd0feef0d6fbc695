"""The Login API: registers and checks accounts, and writes every attempt down as a fact."""
