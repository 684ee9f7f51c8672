import com.hivemq.embedded.EmbeddedHiveMQ;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;

/**
 * HiveMQ CE in a process of its own: Broker FOLDER CA CERTIFICATE KEY. FOLDER holds config.xml,
 * and gets the broker's data. HiveMQ takes certificates from key stores alone, so that they
 * are made from the PEM files: keys.p12 and trust.p12 in FOLDER. It says READY when it listens,
 * and stops in order at SIGTERM.
 */
public final class Broker {
    private static final char[] PASSWORD = "changeit".toCharArray();

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]);
        Certificate authority = certificate(arguments[1]);
        Certificate own = certificate(arguments[2]);
        KeyStore trust = empty();
        trust.setCertificateEntry("authority", authority);
        write(trust, folder.resolve("trust.p12"));
        KeyStore keys = empty();
        byte[] key = Base64.getMimeDecoder().decode(
            Files.readString(Path.of(arguments[3])).replaceAll("-----[A-Z ]+-----", ""));
        keys.setKeyEntry(
            "server",
            KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(key)),
            PASSWORD,
            new Certificate[] {own});
        write(keys, folder.resolve("keys.p12"));

        EmbeddedHiveMQ broker = EmbeddedHiveMQ.builder()
            .withConfigurationFolder(folder)
            .withDataFolder(Files.createDirectories(folder.resolve("data")))
            .withExtensionsFolder(Files.createDirectories(folder.resolve("extensions")))
            .build();
        broker.start().join();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
        System.out.println("READY");
        Thread.currentThread().join();
    }

    private static Certificate certificate(String path) throws Exception {
        try (var file = Files.newInputStream(Path.of(path))) {
            return CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
    }

    private static KeyStore empty() throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        return store;
    }

    private static void write(KeyStore store, Path path) throws Exception {
        try (OutputStream file = Files.newOutputStream(path)) {
            store.store(file, PASSWORD);
        }
    }
}
