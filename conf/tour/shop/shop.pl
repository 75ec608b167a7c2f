# An app of one file, in what every Debian has: says its version and its process.
use strict;
use warnings;
use IO::Socket::INET;

$| = 1;
$SIG{PIPE} = 'IGNORE';
my $socket = IO::Socket::INET->new(
    LocalAddr => $ENV{SLUICE_ADDRESS},
    LocalPort => $ENV{PORT},
    Listen    => 128,
    ReuseAddr => 1,
) or die "cannot listen: $@\n";
print "$ENV{SLUICE_VERSION} listens\n";

while (my $client = $socket->accept) {
    my ($path) = (<$client> // '') =~ m{^GET (\S+) };
    while (my $line = <$client>) { last if $line =~ /^\r?\n/ }
    my $greeting = $ENV{GREETING} // 'hello';
    my $body = "shop $ENV{SLUICE_VERSION} process $$: $greeting\n";
    print $client "HTTP/1.1 200 OK\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n", $body;
    close $client;
    print "answered $path\n" if defined $path && $path ne '/_ping';
}
