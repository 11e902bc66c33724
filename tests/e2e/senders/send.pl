# Net::SMTP of Perl's libnet, with IO::Socket::SSL and Authen::SASL.
use strict;
use warnings;
use Authen::SASL;
use Net::SMTP;

my %how = (Host => '127.0.0.1', Port => $ENV{PORT}, Hello => 'client.example', Timeout => 30, Debug => 1);
my %tls = (SSL_ca_file => $ENV{CA}, SSL_verifycn_name => 'localhost');
my $smtp = Net::SMTP->new(%how, $ENV{TLS} eq 'implicit' ? (SSL => 1, %tls) : ()) or die "no connection: $@";
sub must { my ($worked, $what) = @_; $worked or die "$what: ", $smtp->code, ' ', $smtp->message }
must($smtp->starttls(%tls), 'starttls') if $ENV{TLS} eq 'starttls';
my $sasl = Authen::SASL->new(mechanism => $ENV{MECHANISM}, callback => { user => $ENV{LOGIN}, pass => $ENV{PASSWORD} });
must($smtp->auth($sasl), 'auth');
binmode STDIN;
my $message = do { local $/; <STDIN> };
must($smtp->mail($ENV{SENDER}, $message =~ /[\x80-\xff]/ ? (Bits => 8) : ()), 'mail');
must($smtp->recipient(split /,/, $ENV{RECIPIENTS}), 'recipient');
must($smtp->data, 'data');
must($smtp->datasend($message), 'datasend');
must($smtp->dataend, 'dataend');
$smtp->quit;
