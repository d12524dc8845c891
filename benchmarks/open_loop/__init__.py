"""MLPerf inference's scenarios, driven by MLCommons' LoadGen."""
