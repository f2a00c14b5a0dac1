"""What an administrator can set: settings, routes, and the errors every room shares."""
