# net/smtp of Ruby's standard library.
require 'net/smtp'

implicit = ENV['TLS'] == 'implicit'
context = OpenSSL::SSL::SSLContext.new
context.set_params(ca_file: ENV['CA'])
smtp = Net::SMTP.new('localhost', ENV['PORT'].to_i, tls: implicit, starttls: implicit ? false : :always)
implicit ? smtp.enable_tls(context) : smtp.enable_starttls(context)
smtp.set_debug_output($stderr)
message = $stdin.binmode.read
smtp.start(helo: 'client.example', user: ENV['LOGIN'], secret: ENV['PASSWORD'], authtype: ENV['MECHANISM'].downcase.to_sym) do
  puts smtp.send_message(message, ENV['SENDER'], ENV['RECIPIENTS'].split(',')).string
end
