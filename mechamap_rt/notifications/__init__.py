"""The site's notifications while people are connected: what they have read, and how many they have not."""
