"""The replacement of a running daemon by another version (`mcr serve --takeover`).

    new supervisor   connects, says what it needs
    old supervisor   has control hold all changes; hands over listeners, rules, pages and sockets
    new supervisor   starts control and workers; they wait before they read anything
    old supervisor   has the engines send what they have received, and ends the workers
    new supervisor   lets its workers have the sockets; once they relay, it says so
    old supervisor   ends

Until the last step the old daemon resumes if the new one fails, and from the second step on the
new one continues if the old one dies.

form        the messages                 link    the connection
predecessor the old supervisor's side    successor, inheritance   the new one's
endpoint    where the old one listens   new_version  starts the new one within a service
"""
