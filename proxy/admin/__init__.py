"""The second listener: probes, metrics, a JSON API and a page. An ordinary aiohttp application, never on the data port."""
