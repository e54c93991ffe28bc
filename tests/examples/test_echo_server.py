"""1,000 clients at once, several rounds, every byte; then SIGTERM while they are there: they may finish, new ones may not come."""
import signal
import sys
import unittest

from harness import Server, receive_all, receive_exactly

CLIENTS, ROUNDS = 1000, 5


def message(client, round_):
    """Of every length from a byte to more than the server's buffer, and unlike any other client's."""
    size = 1 + (client * 7919 + round_ * 104729) % 6000
    stamp = b'%d.%d ' % (client, round_)
    return (stamp * (size // len(stamp) + 1))[:size]


class Echo(unittest.TestCase):
    def setUp(self):
        self.server = Server(PROGRAM, '127.0.0.1:0')

    def test_a_thousand_clients_get_back_every_byte_and_may_finish(self):
        clients = [self.server.connect() for _ in range(CLIENTS)]
        for round_ in range(ROUNDS):
            for i, s in enumerate(clients):
                s.sendall(message(i, round_))
            for i, s in enumerate(clients):
                self.assertEqual(receive_exactly(s, len(message(i, round_))), message(i, round_))

        for s in clients[1:]:
            s.close()
        self.server.send_signal(signal.SIGTERM)
        last = clients[0]
        with self.assertRaises(ConnectionRefusedError):
            while True:  # until the listener is closed
                try:
                    self.server.connect().close()
                except ConnectionResetError:  # it was, at this very moment
                    pass
        last.sendall(b'still there')
        self.assertEqual(receive_exactly(last, 11), b'still there')
        self.assertIsNone(self.server.process.poll())
        last.close()
        self.assertEqual(self.server.wait(), (0, 'drained\n'))

    def test_a_client_that_ends_its_side_gets_the_rest(self):
        s = self.server.connect()
        s.sendall(b'x' * 100000)
        s.shutdown(1)
        self.assertEqual(receive_all(s), b'x' * 100000)
        s.close()
        self.assertEqual(self.server.stop(), (0, 'drained\n'))

    def test_a_client_that_vanishes_disturbs_nobody(self):
        other = self.server.connect()
        for _ in range(20):
            s = self.server.connect()
            s.setsockopt(1, 13, b'\1\0\0\0\0\0\0\0')  # SO_LINGER of 0: close resets
            s.sendall(b'y' * 100000)
            s.close()
        other.sendall(b'here')
        self.assertEqual(receive_exactly(other, 4), b'here')
        other.close()
        self.assertEqual(self.server.stop(), (0, 'drained\n'))


if __name__ == '__main__':
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
