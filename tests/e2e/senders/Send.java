// Jakarta Mail (once JavaMail), run as one source file.
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Properties;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Send {
    public static void main(String[] arguments) throws Exception {
        boolean implicit = System.getenv("TLS").equals("implicit");
        Properties how = new Properties();
        how.put("mail.smtp.host", "localhost");
        how.put("mail.smtp.port", System.getenv("PORT"));
        how.put("mail.smtp.localhost", "client.example");
        how.put("mail.smtp.auth", "true");
        how.put("mail.smtp.auth.mechanisms", System.getenv("MECHANISM"));
        how.put("mail.smtp.ssl.enable", String.valueOf(implicit));
        how.put("mail.smtp.starttls.required", String.valueOf(!implicit));
        how.put("mail.smtp.starttls.enable", String.valueOf(!implicit));
        how.put("mail.smtp.ssl.checkserveridentity", "true");
        how.put("mail.smtp.ssl.socketFactory", trusting(System.getenv("CA")).getSocketFactory());
        Session session = Session.getInstance(how);
        session.setDebug(true);
        MimeMessage message = new MimeMessage(session, System.in);
        try (Transport transport = session.getTransport("smtp")) {
            transport.connect(System.getenv("LOGIN"), System.getenv("PASSWORD"));
            transport.sendMessage(message, InternetAddress.parse(System.getenv("RECIPIENTS")));
        }
    }

    static SSLContext trusting(String authority) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream file = new FileInputStream(authority)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
