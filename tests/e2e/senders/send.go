// net/smtp of Go's standard library. SSL_CERT_FILE names the certificate authority.
package main

import (
	"crypto/tls"
	"io"
	"log"
	"net/smtp"
	"os"
	"strings"
)

func main() {
	address := "localhost:" + os.Getenv("PORT")
	recipients := strings.Split(os.Getenv("RECIPIENTS"), ",")
	auth := smtp.PlainAuth("", os.Getenv("LOGIN"), os.Getenv("PASSWORD"), "localhost")
	message, err := io.ReadAll(os.Stdin)
	must(err)
	if os.Getenv("TLS") == "starttls" {
		must(smtp.SendMail(address, auth, os.Getenv("SENDER"), recipients, message))
		return
	}
	connection, err := tls.Dial("tcp", address, &tls.Config{ServerName: "localhost"})
	must(err)
	client, err := smtp.NewClient(connection, "localhost")
	must(err)
	must(client.Auth(auth))
	must(client.Mail(os.Getenv("SENDER")))
	for _, recipient := range recipients {
		must(client.Rcpt(recipient))
	}
	body, err := client.Data()
	must(err)
	_, err = body.Write(message)
	must(err)
	must(body.Close())
	must(client.Quit())
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
