"""Programs that play a real part in fault tests where the real one will not fail on command."""
