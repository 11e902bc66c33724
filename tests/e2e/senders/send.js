// nodemailer.
'use strict';
const fs = require('fs');
const nodemailer = require('nodemailer');

const { PORT, TLS, CA, LOGIN, PASSWORD, MECHANISM, SENDER, RECIPIENTS } = process.env;
const transport = nodemailer.createTransport({
    host: '127.0.0.1',
    port: Number(PORT),
    name: 'client.example',
    secure: TLS === 'implicit',
    requireTLS: TLS === 'starttls',
    tls: { ca: fs.readFileSync(CA), servername: 'localhost' },
    auth: { user: LOGIN, pass: PASSWORD },
    authMethod: MECHANISM,
    logger: true,
    debug: true,
});
transport
    .sendMail({ envelope: { from: SENDER, to: RECIPIENTS.split(',') }, raw: fs.readFileSync(0) })
    .then((info) => console.log(info.response))
    .catch((error) => {
        console.error(error);
        process.exitCode = 1;
    });
