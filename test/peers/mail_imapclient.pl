# Perl's Mail::IMAPClient against the server: arguments are host, port, user, password, Maildir, and compress for that.
use strict;
use warnings;
use Mail::IMAPClient;

my ($host, $port, $user, $password, $maildir, $compress) = @ARGV;

my $imap = Mail::IMAPClient->new(
    Server   => $host,
    Port     => $port,
    User     => $user,
    Password => $password,
    Ssl      => [SSL_verify_mode => 0],
    Uid      => 1,
    Peek     => 0,
    Compress => $compress ? 1 : 0,
) or die "cannot connect: $@";

sub ok { my ($what, $result) = @_; die "$what: " . ($imap->LastError // 'no') . "\n" unless defined $result; return $result }
sub is { my ($what, $got, $want) = @_; die "$what is '$got', not '$want'\n" unless $got eq $want }

# Mailboxes, with names that need quoting and a literal.
for my $name ('Listen', 'Listen/Blank "quoted"', 'Listen/100% *real*') {
    next if $name =~ /\*/ and !eval { $imap->create($name) };    # a wildcard may be refused
    ok("create $name", $imap->create($name)) unless $imap->exists($name);
}
is('the separator', $imap->separator, '/');
my %folders = map { $_ => 1 } @{ ok('folders', scalar $imap->folders) };
for my $name ('INBOX', 'Sent', 'Listen', 'Listen/Blank "quoted"') {
    die "$name is not in the list\n" unless $folders{$name};
}
ok('subscribe', $imap->subscribe('Listen'));
die "Listen is not subscribed\n" unless grep { $_ eq 'Listen' } $imap->subscribed;

# Messages by literal, with flags and a date.
ok('select', $imap->select('INBOX'));
my @uids;
for my $n (1 .. 4) {
    my $text = "From: Ann <ann\@example.org>\r\nSubject: message $n\r\nTo: bob\@example.net\r\n\r\nBody of message $n.\r\n";
    push @uids, ok('append', $imap->append_string('INBOX', $text, $n == 2 ? '\\Flagged $Label1' : '', '17-Jul-1996 02:44:25 -0700'));
}
is('the new UIDs', "@uids", '1 2 3 4');
is('the count', $imap->message_count, 4);
is('unseen', $imap->unseen_count, 4);

# Searching.
is('SUBJECT', join(' ', $imap->search('SUBJECT', 'message 3')), '3');
is('BODY', join(' ', $imap->search('BODY', 'BODY OF MESSAGE 4')), '4');
is('FLAGGED', join(' ', $imap->search('FLAGGED')), '2');
is('KEYWORD', join(' ', $imap->search('KEYWORD', '$Label1')), '2');
is('OR, NOT', join(' ', $imap->search('OR', 'FLAGGED', 'NOT', 'SUBJECT', 'message 3')), '1 2 4');
is('SENTBEFORE', join(' ', $imap->search('BEFORE', '18-Jul-1996')), '1 2 3 4');

# Sorting and threads, of which each is the list of its messages.
is('sorted', join(' ', $imap->sort('REVERSE SUBJECT', 'UTF-8', 'UNFLAGGED')), '4 3 1');
is('sorted by size', join(' ', $imap->sort('(SIZE ARRIVAL REVERSE SUBJECT)', 'UTF-8', 'ALL')), '4 3 2 1');
ok('append', $imap->append_string('INBOX', "From: bob\@example.net\r\nSubject: Re: message 4\r\nIn-Reply-To: <4\@example.org>\r\n\r\nReply.\r\n", '\\Seen'));
ok('append', $imap->append_string('INBOX', "From: ann\@example.org\r\nSubject: message 4\r\nMessage-ID: <4\@example.org>\r\n\r\nOriginal.\r\n", '\\Seen'));
is('threads', join('|', map { "@$_" } @{ ok('thread', $imap->thread('REFERENCES', 'UTF-8', 'SEEN')) }), '6 5');
ok('delete', $imap->delete_message(5, 6));
ok('expunge', $imap->expunge);

# Reading: BODY[] without PEEK sets \Seen.
my $text = ok('message_string', $imap->message_string(3));
die "message 3 is '$text'\n" unless $text =~ /\r\n\r\nBody of message 3\.\r\n\z/;
is('unseen after reading', $imap->unseen_count, 3);
is('a header', $imap->subject(2), 'message 2');
my $heads = ok('parse_headers', $imap->parse_headers([1 .. 4], 'Subject', 'From'));
is('the heads', join(' ', map { $heads->{$_}{Subject}[0] } sort keys %$heads), 'message 1 message 2 message 3 message 4');
is('the date', $imap->internaldate(1), '17-Jul-1996 02:44:25 -0700') unless $imap->internaldate(1) =~ /^17-Jul-1996 09:44:25 \+0000$/;
is('the size', $imap->size(1), length("From: Ann <ann\@example.org>\r\nSubject: message 1\r\nTo: bob\@example.net\r\n\r\nBody of message 1.\r\n"));
my $structure = ok('BODYSTRUCTURE', $imap->get_bodystructure(1));
is('the type', $structure->bodytype . '/' . $structure->bodysubtype, 'TEXT/PLAIN');
my $envelope = ok('ENVELOPE', $imap->get_envelope(1));
is('the sender', $envelope->from_addresses, 'Ann <ann@example.org>') unless $envelope->from_addresses =~ /ann\@example\.org/;

# Flags, copying, moving, removing.
ok('see', $imap->see(1));
ok('store', $imap->store('1', '+FLAGS', '(Work \\Answered)'));
is('the flags', join(' ', sort grep { !/Recent/ } $imap->flags(1)), 'Work \\Answered \\Seen');
ok('copy', $imap->copy('Listen', 2));
ok('move', $imap->move('Listen', 3));
ok('expunge', $imap->expunge);
is('the count after moving', $imap->message_count, 3);
ok('delete', $imap->delete_message(4));
ok('expunge', $imap->expunge);
is('Listen', $imap->message_count('Listen'), 2);
is('what is left', join(' ', $imap->messages), '1 2');

# A delivery ends the wait.
my $idle = ok('idle', $imap->idle);
my $name = '1700000000.M1P1.perl';
open my $out, '>', "$maildir/tmp/$name" or die $!;
print $out "From: mta\@example.net\nSubject: delivered\n\nNew.\n";
close $out;
chmod 0644, "$maildir/tmp/$name";
rename "$maildir/tmp/$name", "$maildir/new/$name" or die $!;
my $told;
until ($told) {
    my $data = $imap->idle_data(30) or die "nothing was told\n";
    die "nothing was told in 30 s\n" unless @$data;
    $told = grep { /^\* 3 EXISTS/ } @$data;
}
ok('done', $imap->done($idle));
is('the new one', $imap->subject(($imap->messages)[-1]), 'delivered');

# More than a buffer in both directions, of bytes that get smaller by compression and of
# such that do not.
for my $long ("line\r\n" x 100_000, join('', map { join('', map { chr(33 + int rand 94) } 1 .. 70) . "\r\n" } 1 .. 10_000)) {
    my $text = "From: ann\@example.org\r\nSubject: long\r\n\r\n$long";
    my $uid = ok('append', $imap->append_string('Listen', $text));
    ok('select', $imap->select('Listen'));
    die "a message of " . length($text) . " bytes came back as another\n" unless ok('message_string', $imap->message_string($uid)) eq $text;
}
ok('select', $imap->select('INBOX'));

ok('rename', $imap->rename('Listen', 'Alt'));
die "the child did not move along\n" unless $imap->exists('Alt/Blank "quoted"');
ok('delete', $imap->delete('Alt/Blank "quoted"'));
ok('delete', $imap->delete('Alt'));
ok('close', $imap->close);
ok('logout', $imap->logout);
print "Mail::IMAPClient: all right\n";
