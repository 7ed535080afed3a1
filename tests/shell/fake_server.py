"""An HTTP server for tests of clients: answers are functions, requests are noted."""
import http.server
import json
import threading


class Request:
    def __init__(self, method, path, headers, body, size):
        self.method, self.path, self.headers, self.body, self.size = method, path, headers, body, size


class FakeServer:
    """routes: {"/db/request": answer}; an answer is a JSON value, bytes, or a function of (handler, request) that writes itself.

    Bodies above a megabyte are counted (request.size) and thrown away. `refuse_body`: paths that are answered before the
    body is read. `tls`: an ssl.SSLContext."""

    def __init__(self, routes, refuse_body=(), tls=None):
        self.requests, self.routes = [], routes
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def any(self):
                path = self.path.split("?")[0]
                body, size = b"", int(self.headers.get("Content-Length") or 0)
                if path not in refuse_body:
                    left = size
                    while left:
                        piece = self.rfile.read(min(left, 1 << 20))
                        if not piece:
                            break
                        left -= len(piece)
                        if len(body) <= 1 << 20:
                            body += piece
                request = Request(self.command, self.path, self.headers, body.decode("utf-8", "replace"), size)
                fake.requests.append(request)
                answer = fake.routes.get(path, b"")
                if callable(answer):
                    return answer(self, request)
                self.give(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

            def give(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def hang_up(self):
                self.close_connection = True
                self.connection.shutdown(2)

            do_GET = do_POST = do_DELETE = any

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.server.handle_error = lambda *arguments: None
        self.port = self.server.server_address[1]
        self.address = "127.0.0.1:%d" % self.port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def paths(self, method=None):
        return [r.path for r in self.requests if method in (None, r.method)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
