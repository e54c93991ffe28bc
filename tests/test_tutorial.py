"""The tutorial: each program stands in its page as it is, and prints what the page says: test_tutorial.py PAGES PROGRAM...

Where a page says that the order is not fixed, lines that begin with the same word come in the page's order, and the last line is the
last; for the rest any order is right."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import unittest
import xml.etree.ElementTree

PAGES = pathlib.Path(sys.argv.pop(1))
PROGRAMS = [pathlib.Path(program) for program in sys.argv[1:]]
del sys.argv[1:]
SERVER = PROGRAMS[-1]  # needs a client


def page_of(program):
    return (PAGES / (program.name + '.md')).read_text()


def blocks(text, kind):
    return re.findall(rf'^```{kind}\n(.*?)^```$', text, re.M | re.S)


def any_order(lines):
    return sorted(lines, key=lambda line: line.split()[0]), lines[-1]


def own_address():
    """An address of this machine that no other test has, so that its port is free."""
    pid = os.getpid()
    return '127.%d.%d.%d' % (1 + (pid >> 16), pid >> 8 & 255, pid & 255)


class Tutorial(unittest.TestCase):
    def test_every_file_is_a_step_and_the_index_lists_them_in_order(self):
        names = [program.name for program in PROGRAMS]
        self.assertEqual(sorted(path.stem for path in PAGES.glob('*.c')), names)
        self.assertEqual(re.findall(r'^- \[\d+\. .*?\]\((.*?)\.md\)', (PAGES / 'README.md').read_text(), re.M), names)
        self.assertEqual(sorted(path.stem for path in PAGES.glob('*.md')), names + ['README'])

    def test_the_index_and_the_links_have_the_titles_of_the_pages(self):
        for program, following in zip(PROGRAMS, PROGRAMS[1:] + [None]):
            text = page_of(program)
            title = re.match(r'# (.*)\n', text)[1]
            self.assertIn(f'- [{title}]({program.name}.md): ', (PAGES / 'README.md').read_text())
            if following is not None:
                self.assertIn('\nNext: [%s](%s.md).' % (page_of(following).split('\n')[0][2:], following.name), text)
            self.assertTrue(text.endswith(' [the list](README.md).\n'), program.name)

    def test_each_page_shows_its_program(self):
        for program in PROGRAMS:
            with self.subTest(program.name):
                self.assertEqual(blocks(page_of(program), 'c'), [(PAGES / (program.name + '.c')).read_text()])

    def test_each_program_prints_what_its_page_says(self):
        for program in PROGRAMS:
            if program == SERVER:
                continue
            with self.subTest(program.name):
                text = page_of(program)
                done = subprocess.run([program], stdout=subprocess.PIPE, text=True)
                got, [want] = done.stdout.splitlines(), [block.splitlines() for block in blocks(text, 'text')]
                self.assertEqual(done.returncode, 0)
                if 'The order is not fixed' in text:
                    self.assertEqual(any_order(got), any_order(want), got)
                else:
                    self.assertEqual(got, want)

    def test_the_pictures_are_whole_and_each_is_shown(self):
        shown = {name for program in PROGRAMS for name in re.findall(r'\]\((\w+\.svg)\)', page_of(program))}
        self.assertEqual(shown, {path.name for path in PAGES.glob('*.svg')})
        for name in shown:
            xml.etree.ElementTree.parse(PAGES / name)


class Server(unittest.TestCase):
    def setUp(self):
        self.session, self.said = (block.splitlines() for block in blocks(page_of(SERVER), 'text'))
        self.address = own_address()
        self.server = subprocess.Popen([SERVER, self.address + ':7777'], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.server.communicate)
        self.addCleanup(self.server.kill)  # does nothing to one that has ended
        self.assertEqual(self.server.stdout.readline(), self.said[0].replace('127.0.0.1', self.address) + '\n')

    def connect(self):
        s = socket.create_connection((self.address, 7777))
        self.addCleanup(s.close)
        return s

    def converse(self, s):
        stream = s.makefile('r')
        for line in self.session:
            if line.startswith('> '):
                s.sendall(line[2:].encode() + b'\n')
            else:
                self.assertEqual(stream.readline(), line + '\n')
        stream.close()

    def press_ctrl_c(self):
        """And wait until the server has seen it: it listens no more."""
        self.server.send_signal(signal.SIGINT)
        with self.assertRaises(ConnectionRefusedError):
            while True:
                try:
                    self.connect().close()
                except ConnectionResetError:  # it was closed at this very moment
                    pass

    def assert_drained(self):
        self.assertEqual(self.server.stdout.read().splitlines(), self.said[1:])
        self.assertEqual(self.server.wait(), 0)

    def test_a_client_gets_what_the_page_says_and_may_finish(self):
        s = self.connect()
        self.converse(s)
        self.press_ctrl_c()
        self.converse(s)
        self.assertIsNone(self.server.poll())
        s.close()
        self.assert_drained()

    def test_the_second_ctrl_c_cuts_off_who_stays(self):
        s = self.connect()
        self.converse(s)
        self.press_ctrl_c()
        self.server.send_signal(signal.SIGINT)
        self.assertEqual(s.recv(1), b'')
        self.assert_drained()

    def test_a_line_that_is_too_long_ends_its_client_and_nobody_else(self):
        other, s = self.connect(), self.connect()
        s.sendall(b'x' * 80)
        self.assertEqual(s.recv(1), b'')
        self.converse(other)
        other.close()
        self.press_ctrl_c()
        self.assert_drained()


unittest.main(verbosity=2)
