"""What the tools do, callable from Python: `mmseg.apis.test.test(config, ...)`."""
