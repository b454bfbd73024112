"""PyPI's configurable-http-proxy, made to pass each response on as it comes.

By itself it answers when it has the whole of a response, and gives up on it after 20 seconds. JupyterHub's
progress page is an event stream: it would stay empty until the server is up.

Run as a script, with the options of ``configurable-http-proxy``.
"""

from configurable_http_proxy import configproxy
from configurable_http_proxy.cli import main
from configurable_http_proxy.handlers import ProxyHandler
from tornado.httpclient import AsyncHTTPClient
from tornado.httputil import HTTPHeaders, parse_response_start_line

# What belongs to the one connection; the body arrives here decoded.
HOP_BY_HOP = {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}


class StreamingProxyHandler(ProxyHandler):
    """Passes a request on, and its response as it comes."""

    async def call_proxy(self, path: str | None = None) -> None:
        url = await self.get_target_url(path)
        if url is None:
            return
        request = self._get_proxy_request(url)
        request.request_timeout = 0
        request.header_callback = self._pass_header
        request.streaming_callback = self._pass_body
        try:
            await AsyncHTTPClient().fetch(request, raise_error=False)
        except OSError as exc:
            if self._headers_written:
                # Too late for another status; a body cut short is how HTTP says it.
                self.request.connection.close()
            else:
                self._new_headers()
                await self.handle_proxy_error(503, exc)
            return
        self.finish()

    def _pass_header(self, line: str) -> None:
        line = line.rstrip("\r\n")
        if line.startswith("HTTP/"):
            start = parse_response_start_line(line)
            self._new_headers()
            self.set_status(start.code, start.reason)
        elif line:
            for name, value in HTTPHeaders.parse(line).get_all():
                if name.lower() not in HOP_BY_HOP:
                    self.add_header(name, value)

    def _pass_body(self, chunk: bytes) -> None:
        self.write(chunk)
        self.flush()

    def _new_headers(self) -> None:
        self.clear()
        for name in ("Server", "Content-Type", "Date"):
            self.clear_header(name)


if __name__ == "__main__":
    configproxy.ProxyHandler = StreamingProxyHandler
    AsyncHTTPClient.configure(None, max_clients=1000)
    main()
