<?php
// PHPMailer's SMTP class over PHP's streams.
require 'libphp-phpmailer/autoload.php';

use PHPMailer\PHPMailer\SMTP;

$smtp = new SMTP();
$smtp->do_debug = SMTP::DEBUG_LOWLEVEL;
$smtp->Timeout = 30;
$options = ['ssl' => ['cafile' => getenv('CA'), 'peer_name' => 'localhost']];
function must($worked, $what)
{
    global $smtp;
    if (!$worked) {
        fwrite(STDERR, "$what: " . json_encode($smtp->getError()) . "\n");
        exit(1);
    }
}
$implicit = getenv('TLS') === 'implicit';
must($smtp->connect(($implicit ? 'ssl://' : '') . '127.0.0.1', (int) getenv('PORT'), 30, $options), 'connect');
must($smtp->hello('client.example'), 'hello');
if (!$implicit) {
    must($smtp->startTLS(), 'startTLS');
    must($smtp->hello('client.example'), 'hello');
}
must($smtp->authenticate(getenv('LOGIN'), getenv('PASSWORD'), getenv('MECHANISM')), 'authenticate');
must($smtp->mail(getenv('SENDER')), 'mail');
foreach (explode(',', getenv('RECIPIENTS')) as $recipient) {
    must($smtp->recipient($recipient), 'recipient');
}
must($smtp->data(preg_replace('/\r\n$/D', '', stream_get_contents(STDIN))), 'data'); // It adds the last line end.
$smtp->quit();
